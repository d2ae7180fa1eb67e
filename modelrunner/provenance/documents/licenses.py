"""Licenses as the SPDX list names them, from the words that makers of models write."""

import re

_KNOWN = (
    "AFL-3.0",
    "AGPL-3.0-only",
    "AGPL-3.0-or-later",
    "Apache-2.0",
    "Artistic-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSD-3-Clause-Clear",
    "BSL-1.0",
    "CC-BY-2.0",
    "CC-BY-2.5",
    "CC-BY-3.0",
    "CC-BY-4.0",
    "CC-BY-NC-2.0",
    "CC-BY-NC-3.0",
    "CC-BY-NC-4.0",
    "CC-BY-NC-ND-3.0",
    "CC-BY-NC-ND-4.0",
    "CC-BY-NC-SA-2.0",
    "CC-BY-NC-SA-3.0",
    "CC-BY-NC-SA-4.0",
    "CC-BY-ND-4.0",
    "CC-BY-SA-3.0",
    "CC-BY-SA-4.0",
    "CC0-1.0",
    "CDLA-Permissive-1.0",
    "CDLA-Permissive-2.0",
    "CDLA-Sharing-1.0",
    "ECL-2.0",
    "EPL-1.0",
    "EPL-2.0",
    "EUPL-1.1",
    "EUPL-1.2",
    "GPL-2.0-only",
    "GPL-2.0-or-later",
    "GPL-3.0-only",
    "GPL-3.0-or-later",
    "ISC",
    "LGPL-2.1-only",
    "LGPL-2.1-or-later",
    "LGPL-3.0-only",
    "LGPL-3.0-or-later",
    "MIT",
    "MPL-2.0",
    "MS-PL",
    "MulanPSL-2.0",
    "NCSA",
    "ODbL-1.0",
    "OFL-1.1",
    "OSL-3.0",
    "PostgreSQL",
    "Unlicense",
    "WTFPL",
    "Zlib",
)
"""Identifiers of the SPDX list that models are under (source: SPDX license list 3.27)."""

_BY_WORD = {name.lower(): name for name in _KNOWN}


def spdx_license(said: str | None) -> str | None:
    """Return the identifier of a license in the SPDX list; None for any other.

    Models write them in lower case. `gpl-3.0` alone does not say whether later versions count, so
    it has no identifier.
    """
    return None if said is None else _BY_WORD.get(said.strip().lower())


def license_reference(said: str | None) -> str:
    """Return a reference to a license that the SPDX list does not have."""
    word = re.sub(r"[^A-Za-z0-9.]+", "-", said or "").strip("-.")[:60]
    return f"LicenseRef-{word or 'model'}"
