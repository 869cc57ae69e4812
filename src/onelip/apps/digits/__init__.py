"""The demo of digits: draw or type one, see what the network says, why, and what is proven about it."""
