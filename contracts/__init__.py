"""What Tandem's teams promise each other. Everybody may import this package, and only it."""
