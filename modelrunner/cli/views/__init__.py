"""Results as text: cards, estimates, locks, pulls."""
