"""The candidate index: a rebuildable SQL database over every candidate row of a profile.

Nothing here imports AiiDA: a query needs the index alone, and starts fast.
"""
