"""What `modelrunner runtimes` does: images of llama.cpp installed, chosen, updated, removed."""
