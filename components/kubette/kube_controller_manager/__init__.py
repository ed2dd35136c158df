"""The kube-controller-manager process: a folder per controller, each with its pure `plan.py` and its `controller.py`.

`app.py` wires; `context.py` is what a controller is given; `controllers.py` is the table of all of them. Controllers meet only
through the API server: none imports another.
"""
