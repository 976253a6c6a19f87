"""What goes wrong around a live routed: malformed messages, crashes, dead links, slow and hostile peers."""
