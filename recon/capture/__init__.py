"""From pictures to cameras: the field's formats, and poses where there are none."""
