RULES = ("SGD", "Momentum", "Nesterov", "AdaGrad", "RMSprop", "Adam")
