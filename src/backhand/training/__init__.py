"""The LightningModule, its optimizers and callbacks, and the train and evaluate tasks."""
