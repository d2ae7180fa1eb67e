"""Pull language models as OCI artifacts, know whether they fit, and talk to them."""

__version__ = "0.1.0"
