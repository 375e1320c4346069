"""What an agent sees, what it answers, and what that costs."""
