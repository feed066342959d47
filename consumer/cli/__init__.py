"""The command line: `quartermaster ...`, one module for each group of commands."""
