"""The garbage collector: objects whose owners are gone go too; foreground and orphaning deletion."""
