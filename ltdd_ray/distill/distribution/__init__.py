"""What distilled sets are held against: real images chosen well, and training on all images."""
