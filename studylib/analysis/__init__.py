"""What is read off finished trials and data; nothing here trains."""
