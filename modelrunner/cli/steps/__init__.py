"""What several commands ask and show: confirmation, a pull, a launch, a server."""
