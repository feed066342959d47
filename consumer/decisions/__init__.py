"""What events and commands mean: plain functions from values to values, without effects."""
