"""Models whose layers are archives: what was unpacked of them."""
