"""What each user encoder gains: its history left as it was or kept live, with and without the kernel."""
