"""Steps after the prediction that repair topology: chosen by cross-validation, and applied."""
