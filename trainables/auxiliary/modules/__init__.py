"""What needs torch of each auxiliary task: its head, its batch and its loss, in a file of the task's name."""
