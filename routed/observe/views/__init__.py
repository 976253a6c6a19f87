"""From what is observed to the documents of the status API.

Each module answers one question: `status`, `peers`, `routes`, `rates`, `events`, `blocks`. They read, and
change nothing. What they take from peers and records is data: any text becomes text that JSON can hold
(`text.clean`), and nothing else is done to it.
"""
