"""Money: what may be spent, what is set aside, and what was paid.

budgets    the budgets of the config at work; alerts: who is told of them
spending, fitting
           what a request may cost, and whether a job could ever be paid
ledger     what requests have cost, on its way into the store
"""
