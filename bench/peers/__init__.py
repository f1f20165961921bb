"""What accept is compared with: other ways to answer `POST /send`, each a program of its own."""
