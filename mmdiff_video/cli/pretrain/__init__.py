"""Train the nano backbones from nothing, on rooms."""
