"""What all classes have in common: moments, whitening, kernel regression."""
