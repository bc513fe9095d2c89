"""A seeded world of card payments with fraud in it, and the scenarios that disturb one.

* `population`: who pays where: customers with habits, terminals with places and popularity.
* `payments`: the columns all makers of payments share, and the frame they become.
* `fraud`: what criminals add or change, and when the bank learns of it.
* `world`: `World` and `simulate`, which put the three together.
* `scenarios`: `Scenario` and `inject`, for any frame of that shape, a user's own included.
* `disturbances`: how each scenario changes the rows it is given.

The idea is that of the Fraud Detection Handbook (Le Borgne, Siblini, Lebichot, Bontempi), chapter
3, whose three kinds of fraud live on here beside others; the code is our own.
"""
