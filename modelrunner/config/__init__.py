"""The configuration: settings with their origins, and the file that holds them."""
