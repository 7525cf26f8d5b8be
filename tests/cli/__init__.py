"""The command line does what it says, and says what to do when it cannot."""
