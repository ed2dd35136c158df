"""One module a verb. Each is `async handle(call) -> Answer | StreamResponse`; what they share is in the modules named by nouns."""
