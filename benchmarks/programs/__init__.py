"""The programs that are compared with ours, each as a good engineer would write it, each its own process."""
