"""How often the operation, the line and the samples of a first NaN or infinity are named rightly:
faults put into models of many architectures, losses, data, weights and optimizers.
"""
