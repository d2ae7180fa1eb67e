"""Memory over context as a plot."""
