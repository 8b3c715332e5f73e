"""What a configuration asks for, worked out without running anything."""
