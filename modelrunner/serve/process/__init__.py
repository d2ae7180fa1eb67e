"""Gateways as processes: started in the background, recorded, stopped."""
