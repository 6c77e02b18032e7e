"""Where the truth is kept: implementations of `unwind.ports.Store`."""
