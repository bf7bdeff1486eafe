"""`duck doctor`: what is looked at, and what was found."""
