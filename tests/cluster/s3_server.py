"""python s3_server.py PORT: moto's S3 on loopback, one request at a time.

moto looks whether an object is there and then writes it, which is one step only where no other
request comes in between: so it has no threads here, as the conditional writes of S3 need.
"""

import sys

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import run_simple

if __name__ == "__main__":
    application = DomainDispatcherApplication(create_backend_app)
    run_simple("127.0.0.1", int(sys.argv[1]), application, threaded=False)
