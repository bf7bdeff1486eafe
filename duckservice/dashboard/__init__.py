"""The dashboard: a page in the browser, and the small server on loopback behind it.

    browser --HTTP--> door -> app -+-> page files, a list that is known at the start
                                   +-> stream <- board <- collector --+
                                   +-> what is forwarded, by a list --+--> the daemon's
                                                                           Unix socket

It is a client of the daemon like any other (`gateway.client`), and runs in the process
of ``duck dashboard``. What it may ask the daemon, the user may who started it.

    entrance     one-time tokens, and the cookies that they become
    same_user    whose process is at the other end of a connection, as the kernel says
    door         who may come in
    allowed      what is forwarded to the daemon
    app          which answer a request gets
    answers      how answers are sent, and the headers of each
    page_files   the page, its scripts and styles
    points       events as the points of the charts
    board        what all pages are told, and how far each has read
    stream       it, as server-sent events
    asking       the daemon, without blocking
    collector    keeps the board, whoever looks
    serving      all of them together
"""
