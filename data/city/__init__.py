"""The reference city of the demo and the tests. It alone knows the truth; nobody outside data/ may import it."""
