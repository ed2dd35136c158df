"""Stand-ins: small programs that play an image's part where the machine does not have the real one.

The image catalogue names them, and every pull says so. Each keeps to what people use the image for in a cluster: its port, its page, its log format, its signals.
Only the standard library is imported: a stand-in is as small as what it stands for.
"""
