"""What is pushed to a shared store: repositories of its own, apart from the models of the store."""
