"""Files of Gaussians: one module a format, with its reader and its writer side by side."""
