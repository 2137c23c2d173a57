"""What the analyses compute with: frames, products and factorisations that stay accurate."""
