"""Pages and figures that are generated from committed results."""
