"""What it took to bring a blob into the store."""

from collections.abc import Mapping

from modelrunner.frozen import frozen


@frozen
class Fetched:
    """What came of a blob.

    Attributes:
        downloaded: Bytes of the blob that came over the network; what came twice counts once.
        resumed: Bytes of the blob that an earlier try has left.
        origins: Bytes that each place has delivered, with what came twice.
    """

    downloaded: int
    resumed: int
    origins: Mapping[str, int]


NOTHING = Fetched(0, 0, {})
"""For a blob that was here."""
