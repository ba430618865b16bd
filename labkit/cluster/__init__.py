"""Which machines: controllers, engines, and how they come up and go away."""
