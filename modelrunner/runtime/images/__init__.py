"""llama.cpp builds as container images: unpacked, checked, started without a container engine."""
