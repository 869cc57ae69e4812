"""A drawn runway world: approach pictures with exact masks, corners, boxes and poses."""
