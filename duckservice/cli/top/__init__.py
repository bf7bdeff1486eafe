"""`duck top`: the daemon, live, on one screen.

poll, feed     what the daemon answers, and tells as it happens
build          from these to a frame, which is a value (`frame`)
layout, grid   from a frame to lines, as wide as the terminal
screen, live   the terminal, its keys, and giving it back
"""
