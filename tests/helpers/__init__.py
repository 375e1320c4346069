"""What tests share: small environments, numbers by hand, tasks of one's own."""
