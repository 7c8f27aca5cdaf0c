"""Dense perception from the same features: segmentation, depth, saliency."""
