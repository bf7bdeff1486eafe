"""The metrics of one service: counted as events come, read when somebody scrapes.

metrics    both together; tally counts, reading reads what is kept elsewhere
table      every metric with its labels and its help
histogram, text
           the counts between bounds, and the text that Prometheus reads
"""
