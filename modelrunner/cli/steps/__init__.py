"""Steps that commands share: pull, fit, launch, lock, serve, confirm."""
