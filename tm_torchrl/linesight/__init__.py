"""Import of Linesight's trained networks."""
